-- Messages that were deleted and whose words have still to leave the search index. To take them out costs a hundred times what it costs to
-- write the text here: so a deletion does not hold everybody's writes up for it, and it is done behind, a little at a time.
CREATE TABLE search_removals (
  message_seq INTEGER PRIMARY KEY,
  tenant_no   INTEGER NOT NULL REFERENCES tenants (tenant_no),
  content     TEXT NOT NULL
) STRICT;

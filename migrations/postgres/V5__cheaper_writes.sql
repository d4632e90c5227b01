-- The twin of ../sqlite/V5__cheaper_writes.sql, which gives the reasons.
DROP INDEX turns_waiting;

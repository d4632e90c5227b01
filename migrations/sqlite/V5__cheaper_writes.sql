-- What each new session and each turn paid for and nobody had anything of.

-- Turns that wait lie within those that are unsettled, of which a session has few.
DROP INDEX turns_waiting;

-- For `IN` with more than two values SQLite makes a table, fills it and drops it again, for every row that is written. The rules stay
-- the same, and so does what is stored: only their spelling changes.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
SET sql = replace(sql, 'channel IN (''DASHBOARD'', ''TEAMS'', ''API'')', 'channel = ''DASHBOARD'' OR channel = ''TEAMS'' OR channel = ''API''')
WHERE type = 'table' AND name = 'sessions';
UPDATE sqlite_schema
SET sql = replace(sql, 'status IN (''QUEUED'', ''RUNNING'', ''COMPLETED'', ''FAILED'', ''CANCELLED'')',
                  'status = ''QUEUED'' OR status = ''RUNNING'' OR status = ''COMPLETED'' OR status = ''FAILED'' OR status = ''CANCELLED''')
WHERE type = 'table' AND name = 'turns';
PRAGMA writable_schema = RESET;

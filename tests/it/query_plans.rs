//! How SQLite reads the lists: along the index that each range is made for, never sorting.

use rusqlite::Connection;
use switchboard::store::database_file;
use switchboard::store::sessions::RANGES;

use crate::support::Server;

#[test]
fn every_range_of_sessions_walks_its_index_newest_first() {
    let server = Server::demo();
    let file = Connection::open(database_file(server.folder())).unwrap();
    for (index, sql) in RANGES {
        let mut statement = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let mut rows = statement.raw_query();
        let mut plan = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            plan.push(row.get::<_, String>("detail").unwrap());
        }
        let whole = plan.join("\n");
        let walk = plan
            .iter()
            .find(|step| step.starts_with(&format!("SEARCH s USING INDEX {index} (")))
            .unwrap_or_else(|| panic!("{index} is not used:\n{whole}"));
        assert!(
            walk.ends_with(" AND rowid<?)"),
            "{index} does not begin at the cursor: {walk}"
        );
        assert!(
            !whole.contains("TEMP B-TREE"),
            "{index} is sorted:\n{whole}"
        );
        assert!(!whole.contains("SCAN"), "{index} is read whole:\n{whole}");
        assert_eq!(plan.len(), 2, "{whole}");
    }
}

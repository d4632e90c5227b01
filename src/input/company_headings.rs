//! The headings of a list of companies: which column is which field of a company (contract, section
//! 11, A list of companies).

use std::str::FromStr;

use crate::input::fields::{Problem, shortened};
use crate::input::seed::UnknownFields;
use crate::input::table::records::Cells;

/// A field of a company that a list can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListField {
    /// The company's id, which every list has.
    Id,
    /// The company's name.
    Name,
    /// The company's M365 tenant.
    Directory,
}

impl ListField {
    pub(super) const ALL: [Self; 3] = [Self::Id, Self::Name, Self::Directory];

    /// The name of the field, which is also the column's own heading.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Id => "psa_company_id",
            Self::Name => "psa_company_name",
            Self::Directory => "tenant_id",
        }
    }

    /// The headings of PSAs, documentation systems and Microsoft's portals, in lower case without
    /// space and punctuation.
    fn known(self) -> &'static [&'static str] {
        match self {
            Self::Id => &[
                "psacompanyid",
                "psaid",
                "companyid",
                "companyidentifier",
                "clientid",
                "customerid",
                "accountid",
                "organizationid",
                "organisationid",
                "orgid",
            ],
            Self::Name => &[
                "psacompanyname",
                "companyname",
                "clientname",
                "customername",
                "accountname",
                "organizationname",
                "organisationname",
                "orgname",
            ],
            Self::Directory => &[
                "tenantid",
                "tenantguid",
                "azuretenantid",
                "azureadtenantid",
                "aadtenantid",
                "entratenantid",
                "entraidtenantid",
                "microsoftentratenantid",
                "microsofttenantid",
                "microsoft365tenantid",
                "ms365tenantid",
                "m365tenantid",
                "o365tenantid",
                "office365tenantid",
                "microsoftid",
                "directoryid",
                "azuredirectoryid",
                "azureaddirectoryid",
                "entradirectoryid",
                "microsoftdirectoryid",
                "directorytenantid",
            ],
        }
    }

    /// Headings that say too little to count beside a known one.
    fn general(self) -> &'static [&'static str] {
        match self {
            Self::Id => &["id", "identifier"],
            Self::Name => &[
                "name",
                "company",
                "client",
                "customer",
                "account",
                "organization",
                "organisation",
            ],
            Self::Directory => &[
                "azuretenant",
                "m365tenant",
                "microsofttenant",
                "entratenant",
            ],
        }
    }
}

/// How sure it is that a heading means a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    General,
    Known,
    Own,
    /// The operator says so.
    Mapped,
}

/// The field that a heading means by itself.
fn meaning(heading: &str) -> Option<(ListField, Rank)> {
    let plain = plain(heading);
    let rank = |field: ListField| {
        if heading.trim().eq_ignore_ascii_case(field.name()) {
            Some(Rank::Own)
        } else if field.known().contains(&plain.as_str()) {
            Some(Rank::Known)
        } else if field.general().contains(&plain.as_str()) {
            Some(Rank::General)
        } else {
            None
        }
    };
    let fields = ListField::ALL.into_iter();
    fields
        .filter_map(|field| Some((field, rank(field)?)))
        .max_by_key(|(_, rank)| *rank)
}

/// A heading in lower case, without space, punctuation and what it has in brackets:
/// `Account ID [updates only]` is `accountid`, and `Directory (tenant) ID` is `directoryid`.
fn plain(heading: &str) -> String {
    let mut plain = String::new();
    let mut depth = 0_usize;
    for character in heading.chars() {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 && character.is_alphanumeric() => {
                plain.extend(character.to_lowercase());
            }
            _ => {}
        }
    }
    plain
}

/// Whether a heading means a field by itself.
pub(super) fn is_known(heading: &[u8]) -> bool {
    meaning(&String::from_utf8_lossy(heading)).is_some()
}

/// A column that the operator names: `Company ID=psa_company_id`.
#[derive(Clone, Debug)]
pub struct HeadingMap {
    heading: String,
    field: ListField,
}

impl FromStr for HeadingMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (heading, name) = text.rsplit_once('=').unwrap_or((text, ""));
        let name = name.trim();
        let mut fields = ListField::ALL.into_iter();
        let field = fields.find(|field| field.name().eq_ignore_ascii_case(name));
        match field {
            Some(field) if !heading.trim().is_empty() => Ok(Self {
                heading: heading.trim().to_owned(),
                field,
            }),
            Some(_) | None => Err(format!(
                "must be HEADING=FIELD, where FIELD is {}, {} or {}, such as \"Company ID={}\"",
                ListField::Id.name(),
                ListField::Name.name(),
                ListField::Directory.name(),
                ListField::Id.name()
            )),
        }
    }
}

impl HeadingMap {
    /// Whether this names a heading: exactly but for case, or else but for space and punctuation.
    fn names(&self, heading: &str) -> Option<bool> {
        if heading.trim().eq_ignore_ascii_case(&self.heading) {
            return Some(true);
        }
        (plain(heading) == plain(&self.heading)).then_some(false)
    }
}

/// The columns of a list.
#[derive(Debug, Default)]
pub(super) struct Columns {
    places: [Option<usize>; ListField::ALL.len()],
    /// The number of columns, without those at the end that have no heading.
    pub(super) count: usize,
    /// What the headings of another system were taken for.
    pub(super) mapped: Option<String>,
    /// The columns that are not read.
    pub(super) unread: Option<String>,
}

impl Columns {
    /// The place of a field's column.
    pub(super) fn place(&self, field: ListField) -> Option<usize> {
        let mut places = ListField::ALL.into_iter().zip(self.places);
        places.find_map(|(other, place)| place.filter(|_| other == field))
    }

    /// The number of cells that a row needs, so that it has all fields.
    pub(super) fn needed(&self) -> usize {
        let last = self.places.iter().flatten().max();
        last.map_or(0, |last| last + 1)
    }

    /// Reads the headings.
    ///
    /// # Errors
    /// A field has no column, or several.
    pub(super) fn read(
        line: u64,
        cells: &Cells,
        maps: &[HeadingMap],
        unknown_fields: UnknownFields,
    ) -> Result<Self, Vec<Problem>> {
        let headings: Vec<String> = cells
            .iter()
            .map(|cell| String::from_utf8_lossy(cell).trim().to_owned())
            .collect();
        let named = headings.iter().rposition(|heading| !heading.is_empty());
        let mut columns = Self {
            count: named.map_or(0, |last| last + 1),
            ..Self::default()
        };
        let mut problems = Vec::new();
        let mut ranks: Vec<Vec<(ListField, Rank)>> = headings
            .iter()
            .map(|heading| meaning(heading).into_iter().collect())
            .collect();
        for map in maps {
            let matches: Vec<Option<bool>> = headings.iter().map(|name| map.names(name)).collect();
            let best = matches.iter().flatten().max().copied();
            let Some(best) = best else {
                problems.push(missing_heading(line, map, &headings));
                continue;
            };
            for (ranks, is_exact) in ranks.iter_mut().zip(matches) {
                if is_exact == Some(best) {
                    // A heading that the operator gives a field has no meaning of its own.
                    ranks.retain(|(_, rank)| *rank == Rank::Mapped);
                    ranks.push((map.field, Rank::Mapped));
                }
            }
        }
        let mut mapped = Vec::new();
        for (field, place) in ListField::ALL.into_iter().zip(&mut columns.places) {
            let (best, found) = best_columns(field, &ranks);
            match found.as_slice() {
                [] => {}
                [only] => {
                    *place = Some(*only);
                    if best < Rank::Own {
                        let heading = shown(&headings, *only);
                        mapped.push(format!("{heading} is read as {}", field.name()));
                    }
                }
                _ if field != ListField::Id
                    && best < Rank::Own
                    && unknown_fields == UnknownFields::Ignore => {}
                several => problems.push(ambiguous(line, field, several, &headings)),
            }
        }
        if problems.is_empty() && columns.place(ListField::Id).is_none() {
            problems.push(no_id(line, &headings));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        columns.mapped = (!mapped.is_empty()).then(|| mapped.join(", "));
        let unread: Vec<usize> = (0..columns.count)
            .filter(|index| !columns.places.contains(&Some(*index)))
            .collect();
        columns.unread = (!unread.is_empty()).then(|| listed(&headings, &unread));
        Ok(columns)
    }
}

/// The columns that most likely are a field.
fn best_columns(field: ListField, ranks: &[Vec<(ListField, Rank)>]) -> (Rank, Vec<usize>) {
    let of_field = |(index, ranks): (usize, &Vec<(ListField, Rank)>)| {
        let mut ranks = ranks.iter();
        let rank = ranks.find(|(other, _)| *other == field)?.1;
        Some((index, rank))
    };
    let found: Vec<(usize, Rank)> = ranks.iter().enumerate().filter_map(of_field).collect();
    let best = found.iter().map(|(_, rank)| *rank).max();
    let best = best.unwrap_or(Rank::General);
    let columns = found.into_iter().filter(|(_, rank)| *rank == best);
    (best, columns.map(|(index, _)| index).collect())
}

/// A heading as a message shows it.
fn shown(headings: &[String], index: usize) -> String {
    let heading = headings.get(index).map_or("", String::as_str);
    match heading {
        "" => format!("column {}", index + 1),
        heading => shortened(&heading.into()),
    }
}

/// The first columns of a list of columns, and the number of the others.
fn listed(headings: &[String], columns: &[usize]) -> String {
    const LISTED: usize = 20;
    let first = columns.iter().take(LISTED);
    let mut names: Vec<String> = first.map(|index| shown(headings, *index)).collect();
    if columns.len() > LISTED {
        names.push(format!("and {} more", columns.len() - LISTED));
    }
    names.join(", ")
}

fn all(headings: &[String]) -> String {
    listed(headings, &(0..headings.len()).collect::<Vec<_>>())
}

fn missing_heading(line: u64, map: &HeadingMap, headings: &[String]) -> Problem {
    Problem {
        path: format!("line {line}"),
        value: shortened(&map.heading.as_str().into()),
        reason: format!(
            "is named by --map, but is no column of the file; its columns are {}",
            all(headings)
        ),
    }
}

fn ambiguous(line: u64, field: ListField, columns: &[usize], headings: &[String]) -> Problem {
    let name = field.name();
    Problem {
        path: format!("line {line}, {name}"),
        value: String::new(),
        reason: format!(
            "the columns {} can each be this; choose one with --map \"HEADING={name}\", or remove the others",
            listed(headings, columns)
        ),
    }
}

fn no_id(line: u64, headings: &[String]) -> Problem {
    let [id, name, directory] = ListField::ALL.map(ListField::name);
    let rule = format!(
        "the first line must name the columns: {id}, and optionally {name} and {directory}"
    );
    let reason = match headings.iter().all(String::is_empty) {
        true => format!("the file has no text; {rule}"),
        false => format!(
            "{rule}; it has {}; if one of them is the id, name it with --map \"HEADING={id}\"",
            all(headings)
        ),
    };
    Problem {
        path: format!("line {line}, {id}"),
        value: String::new(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of the fields, and what is told of the headings.
    fn read(headings: &str, maps: &[&str]) -> Result<Columns, String> {
        let cells = Cells::of(headings.as_bytes(), b',');
        let maps: Vec<HeadingMap> = maps.iter().map(|map| map.parse().unwrap()).collect();
        Columns::read(1, &cells, &maps, UnknownFields::Refuse)
            .map_err(|problems| problems.into_iter().next().unwrap().reason)
    }

    fn places(headings: &str, maps: &[&str]) -> [Option<usize>; 3] {
        read(headings, maps).unwrap().places
    }

    #[test]
    fn the_headings_of_psas_are_known_in_any_spelling() {
        for headings in [
            "psa_company_id,psa_company_name,tenant_id",
            " PSA_COMPANY_ID , Psa Company Name ,Tenant-ID",
            "Company ID,Company Name,Azure Tenant ID",
            "company_id,companyName,azure_tenant_id",
            "Client ID,Client Name,Microsoft Tenant ID",
            "Account ID [updates only],Account Name*,M365 Tenant ID",
            "Organization ID (updates only),Organization Name,Entra Tenant ID",
            "id,name,Directory ID",
            "Customer ID,Customer,Microsoft 365 Tenant ID",
            "Org. ID,Org. Name,Directory (tenant) ID",
            "Company ID,Company,Azure Tenant",
        ] {
            assert_eq!(
                places(headings, &[]),
                [Some(0), Some(1), Some(2)],
                "{headings}"
            );
        }
    }

    #[test]
    fn a_general_heading_yields_to_a_known_one_and_that_to_the_own_one() {
        assert_eq!(
            places("ID,Company ID,Name,Company Name", &[]),
            [Some(1), Some(3), None]
        );
        let own = read("Company ID,psa_company_id,City", &[]).unwrap();
        assert_eq!(own.places, [Some(1), None, None]);
        assert_eq!(own.mapped, None);
        assert_eq!(own.unread.as_deref(), Some("\"Company ID\", \"City\""));
    }

    #[test]
    fn a_map_beats_every_heading_and_one_column_can_be_two_fields() {
        assert_eq!(
            places("Company ID,Debtor No,Name", &["debtor no=psa_company_id"]),
            [Some(1), Some(2), None]
        );
        assert_eq!(
            places("Who", &["Who=psa_company_id", "Who=psa_company_name"]),
            [Some(0), Some(0), None]
        );
        assert_eq!(
            places("a=b,x", &["a=b=psa_company_id"]),
            [Some(0), None, None]
        );
        assert_eq!(
            read("Company ID,Name", &["Debtor=psa_company_id"]).unwrap_err(),
            "is named by --map, but is no column of the file; its columns are \"Company ID\", \"Name\""
        );
        for map in ["Company ID", "=psa_company_id", "Company ID=id", "a=", ""] {
            assert!(map.parse::<HeadingMap>().is_err(), "{map}");
        }
    }

    #[test]
    fn two_columns_for_one_field_are_a_problem_that_suggests_a_map() {
        assert_eq!(
            read("Company ID,Client ID", &[]).unwrap_err(),
            "the columns \"Company ID\", \"Client ID\" can each be this; choose one with --map \"HEADING=psa_company_id\", or remove the others"
        );
        assert_eq!(
            places("Company ID,Client ID", &["Client ID=psa_company_id"]),
            [Some(1), None, None]
        );
    }

    #[test]
    fn columns_at_the_end_without_a_heading_do_not_count() {
        let columns = read("psa_company_id,,City,,", &[]).unwrap();
        assert_eq!((columns.count, columns.needed()), (3, 1));
        assert_eq!(columns.unread.as_deref(), Some("column 2, \"City\""));
    }
}

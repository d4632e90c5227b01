//! A list of problems that does not grow with the file.

use crate::input::fields::Problem;

/// The first problems of a file, and the number of the others.
#[derive(Debug, Default)]
pub struct ProblemList {
    first: Vec<Problem>,
    more: usize,
}

impl ProblemList {
    /// The maximum number of problems that are listed.
    const LISTED: usize = 1_000;

    /// Whether there is no problem.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        match self.first.len() < Self::LISTED {
            true => self.first.push(problem),
            false => self.more += 1,
        }
    }

    /// Adds the problems of another list.
    pub fn append(&mut self, others: Self) {
        self.extend(others.first);
        self.more += others.more;
    }

    /// The problems to list. The last one stands for those that are not listed.
    pub fn into_listed(mut self) -> Vec<Problem> {
        if self.more > 0 {
            self.first.push(Problem {
                path: format!("and {} more", self.more),
                value: String::new(),
                reason: String::new(),
            });
        }
        self.first
    }
}

impl Extend<Problem> for ProblemList {
    fn extend<T: IntoIterator<Item = Problem>>(&mut self, problems: T) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }
}

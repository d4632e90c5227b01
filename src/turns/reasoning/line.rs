//! The line of a Markdown text that a stream has reached, and whether it is code.

/// The line of a Markdown text that is read piece by piece, and the code fence around it.
#[derive(Debug)]
pub(super) struct Line {
    /// The mark of the fence around the line, and its length.
    fence: Option<(char, usize)>,
    /// The spaces at the beginning.
    indent: usize,
    /// The mark that the line begins with, and how many of it.
    mark: Option<(char, usize)>,
    /// Whether anything but the mark and white space has come.
    has_text: bool,
    /// Whether a backtick follows the mark and other text, so that the line is no fence.
    is_inline: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self::within(None)
    }
}

impl Line {
    /// The beginning of a line.
    fn within(fence: Option<(char, usize)>) -> Self {
        Self {
            fence,
            indent: 0,
            mark: None,
            has_text: false,
            is_inline: false,
        }
    }

    /// Whether the line has nothing yet, and is not code.
    pub(super) fn is_blank(&self) -> bool {
        self.fence.is_none() && self.mark.is_none() && !self.has_text && self.indent <= 3
    }

    /// Reads the next piece of the text.
    pub(super) fn read(&mut self, text: &str) {
        for character in text.chars() {
            match (character, &mut self.mark) {
                ('\n', _) => *self = Self::within(self.fence_after()),
                (' ', None) if !self.has_text => self.indent += 1,
                ('`' | '~', None) if !self.has_text => self.mark = Some((character, 1)),
                (_, Some((mark, length))) if character == *mark && !self.has_text => *length += 1,
                ('`', Some(('`', _))) => self.is_inline = true,
                (_, Some(_)) if character.is_whitespace() => {}
                _ => self.has_text = true,
            }
        }
    }

    /// The fence around the next line.
    fn fence_after(&self) -> Option<(char, usize)> {
        let mark = self
            .mark
            .filter(|(_, length)| *length >= 3 && self.indent <= 3);
        match (self.fence, mark) {
            (None, mark) => mark.filter(|_| !self.is_inline),
            (Some((open, least)), Some((mark, length)))
                if open == mark && length >= least && !self.has_text =>
            {
                None
            }
            (fence, _) => fence,
        }
    }
}

//! Checks
use crate::Config;
use crate::fault::Fault;
use crate::parse::Spans;
use crate::report::Found;

pub(crate) struct Finding {
    pub(crate) fault: Fault,
    pub(crate) at: String,
    pub(crate) earlier: Option<String>,
}
impl Finding {
    pub(crate) fn located(self, spans: &Spans) -> Found {
        Found {
            at: spans.get(&self.at),
            earlier: self.earlier.and_then(|path| spans.get(&path)),
            fault: self.fault,
        }
    }
    pub(crate) fn unlocated(self) -> Found {
        Found {
            fault: self.fault,
            at: None,
            earlier: None,
        }
    }
}
pub(crate) fn config(_config: &Config) -> Vec<Finding> {
    Vec::new()
}

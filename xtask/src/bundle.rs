//! p
use anyhow::Result;
pub(crate) fn run(_verify: bool) -> Result<()> {
    Ok(())
}

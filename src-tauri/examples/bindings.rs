//! Writes the TypeScript bindings to the path given; `cargo xtask bindings` runs it.

fn main() -> anyhow::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or_else(|| anyhow::anyhow!("usage: bindings FILE"))?;
    keywright_desktop::export_bindings(path.as_ref())
}

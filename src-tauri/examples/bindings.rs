//! Writes the TypeScript bindings and the flows to the paths given; `cargo xtask bindings` runs it.

fn main() -> anyhow::Result<()> {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let [bindings, flows] = paths.as_slice() else {
        anyhow::bail!("usage: bindings FILE FLOWS");
    };
    keywright_desktop::export_bindings(bindings.as_ref())?;
    let text = serde_json::to_string_pretty(&keywright_app::list_flows())?;
    Ok(std::fs::write(flows, text + "\n")?)
}

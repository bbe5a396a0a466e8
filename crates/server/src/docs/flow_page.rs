//! `/docs/flows` and `/docs/flows/{flow}`: a flow drawn as lanes, without a script. The drawing is a list with
//! words; who cannot see it reads “Browser → Server” at each step.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::flows::{FLOWS, Flow, FlowStep, find};
use maud::{Markup, html};

use super::{contents, flow_path, page, text};
use crate::pages;
use crate::server::App;
use crate::settings::Settings;

/// `/docs/flows`
pub(super) async fn list(State(app): State<App>) -> Response {
    let settings = &app.settings;
    let content = html! {
        h1 { "Flows" }
        p {
            "Who says what to whom, as this server does it. The Keywright app shows the same under “Flows”, and \
             replays its last real sign-in there."
        }
        (list_of_flows(settings))
    };
    page(settings, "Flows", &[("Documentation", "/docs")], content).into_response(settings)
}

/// `/docs/flows/{flow}`
pub(super) async fn show(State(app): State<App>, Path(id): Path<String>) -> Response {
    let settings = &app.settings;
    let Some(flow) = find(&id) else {
        let advice = format!("All flows are listed at {}.", settings.path("/docs/flows"));
        let happened = "There is no such flow";
        let status = StatusCode::NOT_FOUND;
        return pages::error_page(settings, status, "flow_not_found", happened, &advice);
    };
    let trail = [("Documentation", "/docs"), ("Flows", "/docs/flows")];
    page(settings, flow.title, &trail, of_flow(settings, flow)).into_response(settings)
}

pub(super) fn list_of_flows(settings: &Settings) -> Markup {
    html! {
        ul.rows {
            @for flow in &FLOWS {
                li { div {
                    a href=(flow_path(settings, flow)) { (flow.title) }
                    p { (flow.summary) }
                    p.muted {
                        (flow.steps.len()) " steps: "
                        (flow.lanes.iter().map(|lane| lane.name()).collect::<Vec<_>>().join(", "))
                    }
                } }
            }
        }
    }
}

fn of_flow(settings: &Settings, flow: &Flow) -> Markup {
    html! {
        h1 { (flow.title) }
        p { (flow.summary) }
        h2 #learn { "What you will learn" }
        ul { @for line in flow.learn { li { (text(line)) } } }
        (contents(&[
            ("Step by step", "steps"),
            ("What goes wrong, and where", "failures"),
            ("Note", "note"),
            ("Best practices", "practices"),
            ("See also", "see-also"),
            ("Resources", "resources"),
        ]))
        h2 #steps { "Step by step" }
        (drawing(flow))
        h2 #failures { "What goes wrong, and where" }
        table.stacked.failures {
            thead { tr { th { "Step" } th { "What" } th { "Code" } } }
            tbody {
                @for failure in flow.failures {
                    tr {
                        td data-title="Step" { a href=(format!("#step-{}", failure.step)) { (failure.step) } }
                        td data-title="What" { strong { (failure.title) } ". " (text(failure.detail)) }
                        td data-title="Code" { code { (failure.code) } }
                    }
                }
            }
        }
        h2 #note { "Note" }
        p.notice { (text(flow.note)) }
        h2 #practices { "Best practices" }
        ul { @for line in flow.practices { li { (text(line)) } } }
        h2 #see-also { "See also" }
        ul {
            @for other in flow.see_also.iter().filter_map(|id| find(id)) {
                li { a href=(flow_path(settings, other)) { (other.title) } ": " (other.summary) }
            }
            li { a href=(settings.path("/docs#credential")) { "Which credential?" } }
        }
        h2 #resources { "Resources" }
        ul { @for (name, address) in flow.resources { li { a href=(address) { (name) } } } }
    }
}

fn drawing(flow: &Flow) -> Markup {
    let lanes = flow.lanes.len();
    html! {
        div class=(format!("flow lanes-{lanes}")) {
            div.heads aria-hidden="true" {
                @for lane in flow.lanes { span { (lane.name()) } }
            }
            ol {
                @for step in flow.steps {
                    li id=(format!("step-{}", step.n)) {
                        div class=(arrow(flow, step)) aria-hidden="true" {}
                        div.step {
                            p.who { a href=(format!("#step-{}", step.n)) { (step.n) } " " (step.who()) }
                            h3 { (step.title) }
                            p { (text(step.detail)) }
                        }
                    }
                }
            }
        }
    }
}

/// The classes that place an arrow: the lane it begins at on the left, how many it goes over, and its head.
fn arrow(flow: &Flow, step: &FlowStep) -> String {
    let lane = |one| flow.lanes.iter().position(|lane| *lane == one).unwrap_or(0);
    let (from, to) = (lane(step.from), lane(step.to));
    let head = match from.cmp(&to) {
        std::cmp::Ordering::Less => "right",
        std::cmp::Ordering::Equal => "own",
        std::cmp::Ordering::Greater => "left",
    };
    format!(
        "arrow at-{} over-{} {head}",
        from.min(to),
        from.abs_diff(to)
    )
}

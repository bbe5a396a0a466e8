//! `/docs`: the way in. Which credential is for what, sessions beside tokens, and where to read on.

use axum::extract::State;
use axum::response::Response;
use keywright_domain::flows::choosing::{Choice, Question, SESSIONS_AND_TOKENS, TREE};
use keywright_domain::flows::find;
use maud::{Markup, html};

use super::flow_page::list_of_flows;
use super::guides::GUIDES;
use super::{contents, flow_path, page, text};
use crate::server::App;
use crate::settings::Settings;

/// `/docs`
pub(super) async fn show(State(app): State<App>) -> Response {
    let settings = &app.settings;
    let content = html! {
        h1 { "Documentation" }
        p { "How signing in, sessions, tokens and API keys work on this server." }
        h2 #learn { "What you will learn" }
        ul {
            li { "which credential to use for a person, an app and a program" }
            li { "what each flow does, step by step, and where it can fail" }
            li { "what a session can do that a token cannot, and the other way round" }
        }
        (contents(&[
            ("Which credential?", "credential"),
            ("Sessions or tokens", "sessions-or-tokens"),
            ("Flows, step by step", "flows"),
            ("Guides", "guides"),
            ("Resources", "resources"),
        ]))
        h2 #credential { "Which credential?" }
        div.tree { (ask(settings, &TREE)) }
        h2 #sessions-or-tokens { "Sessions or tokens" }
        (table())
        h2 #flows { "Flows, step by step" }
        (list_of_flows(settings))
        h2 #guides { "Guides" }
        ul.rows {
            @for guide in GUIDES {
                li { div {
                    a href=(settings.path(&format!("/docs/guides/{}", guide.name))) { (guide.title()) }
                    p { (guide.about) }
                } }
            }
        }
        h2 #resources { "Resources" }
        ul {
            li { a href=(settings.path("/api/docs")) { "Every call of the API" } }
            li { a href=(settings.path("/api/openapi.json")) { "The same as an OpenAPI document" } }
            li {
                a href=(settings.path("/.well-known/openid-configuration")) { "What this server says of itself" }
                " (OpenID Connect Discovery)"
            }
        }
    };
    page(settings, "Documentation", &[], content).into_response(settings)
}

fn ask(settings: &Settings, question: &Question) -> Markup {
    html! {
        p.question { (question.text) }
        ul {
            @for (answer, choice) in [("Yes", question.yes), ("No", question.no)] {
                li {
                    span.badge { (answer) }
                    @match choice {
                        Choice::Ask(next) => { (ask(settings, next)) }
                        Choice::Use(credential) => {
                            p {
                                strong { (credential.name) } ". " (text(credential.why))
                                @if let Some(flow) = find(credential.flow) {
                                    " " a href=(flow_path(settings, flow)) { "See: " (flow.title) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn table() -> Markup {
    html! {
        table.stacked {
            thead { tr { td {} th { "Session" } th { "Access token" } } }
            tbody {
                @for [about, session, token] in SESSIONS_AND_TOKENS {
                    tr {
                        th scope="row" { (about) }
                        td data-title="Session" { (text(session)) }
                        td data-title="Token" { (text(token)) }
                    }
                }
            }
        }
    }
}

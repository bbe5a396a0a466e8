//! `/llms.txt` and `/llms-full.txt`: the documentation for programs that read (llmstxt.org), out of the same texts
//! as the pages.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::{HeaderName, header};
use keywright_domain::flows::choosing::{Choice, Question, SESSIONS_AND_TOKENS, TREE};
use keywright_domain::flows::{FLOWS, Flow, find};

use super::CACHE;
use super::guides::GUIDES;
use crate::server::App;
use crate::settings::Settings;

type Text = ([(HeaderName, &'static str); 2], String);

const ABOUT: &str = "Keywright is an OpenID Provider, a session service and a registry of API keys: a server, and a desktop \
                     app that works with it or alone.";

/// `/llms.txt`: what there is, and where.
pub(super) async fn summary(State(app): State<App>) -> Text {
    answer(short(&app.settings))
}

/// `/llms-full.txt`: all of it.
pub(super) async fn full(State(app): State<App>) -> Text {
    answer(long(&app.settings))
}

fn answer(text: String) -> Text {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, CACHE),
    ];
    (headers, text)
}

fn short(settings: &Settings) -> String {
    let url = |path: &str| settings.url(path);
    let mut out = format!("# Keywright\n\n> {ABOUT}\n\n");
    let _infallible = writeln!(
        out,
        "Issuer: {}. Everything below in one file: {}\n\n## Flows\n",
        settings.issuer.as_str(),
        url("/llms-full.txt"),
    );
    for flow in &FLOWS {
        let path = url(&format!("/docs/flows/{}", flow.id));
        let _infallible = writeln!(out, "- [{}]({path}): {}", flow.title, flow.summary);
    }
    out.push_str("\n## Guides\n\n");
    let docs = url("/docs");
    let _infallible = writeln!(
        out,
        "- [Which credential?]({docs}#credential): For a person, an app, a program.\n\
         - [Sessions or tokens]({docs}#sessions-or-tokens): What each can do.",
    );
    for guide in &GUIDES {
        let path = url(&format!("/docs/guides/{}", guide.name));
        let _infallible = writeln!(out, "- [{}]({path}): {}", guide.title(), guide.about);
    }
    let _infallible = writeln!(
        out,
        "\n## API\n\n- [OpenAPI document]({}): Every call.\n- [The same as a page]({}): For people.\n\
         - [OpenID Connect Discovery]({}): Endpoints, algorithms, grant types.",
        url("/api/openapi.json"),
        url("/api/docs"),
        url("/.well-known/openid-configuration"),
    );
    out
}

fn long(settings: &Settings) -> String {
    let mut out = format!(
        "# Keywright\n\n> {ABOUT}\n\nIssuer: {}\n\n# Which credential?\n\n",
        settings.issuer.as_str()
    );
    ask(&mut out, &TREE, 0);
    out.push_str("\n# Sessions or tokens\n\n| | Session | Access token |\n|---|---|---|\n");
    for [about, session, token] in SESSIONS_AND_TOKENS {
        let _infallible = writeln!(out, "| {about} | {session} | {token} |");
    }
    for flow in &FLOWS {
        of_flow(&mut out, flow);
    }
    for guide in &GUIDES {
        out.push('\n');
        out.push_str(&with_whole_addresses(settings, &guide.text()));
    }
    out
}

/// Guides name each other by their files, which lead nowhere from another address.
pub(super) fn with_whole_addresses(settings: &Settings, text: &str) -> String {
    let mut text = text.to_owned();
    for guide in &GUIDES {
        let address = settings.url(&format!("/docs/guides/{}", guide.name));
        for end in [")", "#"] {
            text = text.replace(
                &format!("]({}{end}", guide.name),
                &format!("]({address}{end}"),
            );
        }
    }
    text
}

fn ask(out: &mut String, question: &Question, depth: usize) {
    let indent = "  ".repeat(depth);
    let _infallible = writeln!(out, "{indent}- {}", question.text);
    for (answer, choice) in [("Yes", question.yes), ("No", question.no)] {
        match choice {
            Choice::Ask(next) => {
                let _infallible = writeln!(out, "{indent}  - {answer}:");
                ask(out, next, depth + 2);
            }
            Choice::Use(credential) => {
                let _infallible = writeln!(
                    out,
                    "{indent}  - {answer}: {}. {}",
                    credential.name, credential.why
                );
            }
        }
    }
}

fn of_flow(out: &mut String, flow: &Flow) {
    let _infallible = writeln!(out, "\n# {}\n\n{}\n", flow.title, flow.summary);
    for step in flow.steps {
        let (n, who) = (step.n, step.who());
        let _infallible = writeln!(out, "{n}. {who}: {}. {}", step.title, step.detail);
    }
    out.push_str("\nWhat goes wrong, and where:\n\n");
    for failure in flow.failures {
        let _infallible = writeln!(
            out,
            "- Step {}, `{}`: {}. {}",
            failure.step, failure.code, failure.title, failure.detail
        );
    }
    let _infallible = writeln!(out, "\nNote: {}\n\nBest practices:\n", flow.note);
    for line in flow.practices {
        let _infallible = writeln!(out, "- {line}");
    }
    let others = flow.see_also.iter().filter_map(|id| find(id));
    let others: Vec<_> = others.map(|other| other.title).collect();
    let _infallible = writeln!(out, "\nSee also: {}", others.join(", "));
}

//! The flows as faces show them: how they work, and what happened in the last real ones.

mod trace;

use keywright_domain::flows::{FLOWS, Flow};
use keywright_protocol::flows::{FlowFailureView, FlowStepView, FlowTraceView, FlowView};

use crate::{App, AppError};

pub(crate) use trace::{FlowTrace, FlowTraces, UntilOver};

/// All flows, in order.
#[must_use]
pub fn list_flows() -> Vec<FlowView> {
    FLOWS.iter().map(view).collect()
}

impl App {
    /// All flows, in order.
    ///
    /// # Errors
    /// None today; faces treat every command alike.
    pub fn list_flows(&self) -> Result<Vec<FlowView>, AppError> {
        Ok(list_flows())
    }

    /// The last real sign-ins and refreshes of this run, newest first.
    ///
    /// # Errors
    /// None today; faces treat every command alike.
    pub fn list_flow_traces(&self) -> Result<Vec<FlowTraceView>, AppError> {
        Ok(self.inner.flows.views())
    }
}

fn view(flow: &Flow) -> FlowView {
    let texts = |texts: &[&str]| texts.iter().copied().map(str::to_owned).collect();
    FlowView {
        id: flow.id.to_owned(),
        title: flow.title.to_owned(),
        summary: flow.summary.to_owned(),
        lanes: flow
            .lanes
            .iter()
            .map(|lane| lane.name().to_owned())
            .collect(),
        steps: flow
            .steps
            .iter()
            .map(|step| FlowStepView {
                n: step.n.into(),
                from: step.from.name().to_owned(),
                to: step.to.name().to_owned(),
                title: step.title.to_owned(),
                detail: step.detail.to_owned(),
            })
            .collect(),
        failures: flow
            .failures
            .iter()
            .map(|failure| FlowFailureView {
                step: failure.step.into(),
                code: failure.code.to_owned(),
                title: failure.title.to_owned(),
                detail: failure.detail.to_owned(),
            })
            .collect(),
        note: flow.note.to_owned(),
        practices: texts(flow.practices),
        see_also: texts(flow.see_also),
    }
}

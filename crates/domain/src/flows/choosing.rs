//! Which credential for what: a tree of questions, and sessions beside tokens.

/// A question with two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The question.
    pub text: &'static str,
    /// If so.
    pub yes: Choice,
    /// If not.
    pub no: Choice,
}

/// Where an answer leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// To another question.
    Ask(&'static Question),
    /// To a credential.
    Use(Credential),
}

/// What to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its name.
    pub name: &'static str,
    /// Why, and how.
    pub why: &'static str,
    /// The id of the flow that explains it.
    pub flow: &'static str,
}

/// The first question.
pub const TREE: Question = Question {
    text: "Is there a person, now, whom it is about?",
    yes: Choice::Ask(&PERSON),
    no: Choice::Ask(&PROGRAM),
};

const PERSON: Question = Question {
    text: "Do they use pages of a server of yours, in a browser?",
    yes: Choice::Use(Credential {
        name: "A session cookie",
        why: "The browser carries it, no script can read it, and ending it counts at once.",
        flow: "relying-party",
    }),
    no: Choice::Ask(&APP),
};

const APP: Question = Question {
    text: "Can the app open a browser?",
    yes: Choice::Use(Credential {
        name: "Access and refresh tokens",
        why: "Authorization code with PKCE: for desktop, mobile and single-page apps.",
        flow: "authorization-code",
    }),
    no: Choice::Use(Credential {
        name: "Access and refresh tokens, by device code",
        why: "For televisions, terminals, and machines that are reached from far away.",
        flow: "device",
    }),
};

const PROGRAM: Question = Question {
    text: "Does it speak OAuth, and can it ask for a token every few minutes?",
    yes: Choice::Use(Credential {
        name: "Client credentials",
        why: "A short token for itself: `grant_type=client_credentials` at the token endpoint.",
        flow: "token-life",
    }),
    no: Choice::Use(Credential {
        name: "An API key",
        why: "For services among themselves, command lines and pipelines: one text in a header, with scopes, limits, and an end that counts at once.",
        flow: "key-rotation",
    }),
};

/// A row of the table: a question, the answer of sessions, the answer of tokens.
pub const SESSIONS_AND_TOKENS: [[&str; 3]; 7] = [
    [
        "State",
        "The server keeps a row for each session and looks at it on each request",
        "The token carries everything; the server keeps none of it",
    ],
    [
        "Revoke",
        "At once: the row ends",
        "A plain JWT ends when it expires. Here the server’s own API and introspection refuse it at once; offline, its 15 minutes are the bound",
    ],
    [
        "Speed",
        "A look-up, mostly in memory",
        "A signature, checked anywhere without a network",
    ],
    [
        "Scaling",
        "Each node needs the same database",
        "Each service needs the public keys only",
    ],
    [
        "Transport",
        "A cookie, sent by the browser itself: `HttpOnly`, `Secure`, `SameSite`; changes need a CSRF token",
        "`Authorization: Bearer`, sent by the program; no CSRF, and no place to keep it in a page",
    ],
    [
        "If it is stolen",
        "It works until somebody ends it, and is seen in the list of sessions",
        "It works until it expires; a stolen refresh token gives itself away when both use it",
    ],
    [
        "Best for",
        "Pages in a browser, made by one server",
        "Apps, APIs of several services, programs",
    ],
];

/// Every credential of the tree, from the top.
#[must_use]
pub fn credentials() -> Vec<Credential> {
    fn walk(question: &Question, found: &mut Vec<Credential>) {
        for choice in [question.yes, question.no] {
            match choice {
                Choice::Ask(next) => walk(next, found),
                Choice::Use(credential) => found.push(credential),
            }
        }
    }
    let mut found = Vec::new();
    walk(&TREE, &mut found);
    found
}

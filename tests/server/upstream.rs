//! Our server as a relying party of npm oidc-provider, a certified provider.

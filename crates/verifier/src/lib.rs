//! Checks access tokens of a Keywright server in your own service.

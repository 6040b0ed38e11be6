"""The process that holds local weights and tokenizers, and the client that reaches it over a unix socket."""

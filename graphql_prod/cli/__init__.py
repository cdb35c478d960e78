"""The commands of ``python -m graphql_prod``."""

"""The interface that answers GraphQL: what REST takes and tells, by one schema, within limits of depth and cost."""

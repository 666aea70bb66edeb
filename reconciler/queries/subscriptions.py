"""What the doctor asks, and the one thing it makes: a subscription that is missing."""

SUBSCRIPTIONS = """
query Subscriptions($after: String) {
  webhookSubscriptions(first: 100, after: $after, sortKey: ID) {
    nodes { id createdAt topic uri format filter includeFields metafieldNamespaces apiVersion { handle supported } }
    pageInfo { hasNextPage endCursor }
  }
}
"""
VERSIONS = """
query Versions { publicApiVersions { handle supported } }
"""
SUBSCRIBE = """
mutation Subscribe($topic: WebhookSubscriptionTopic!, $given: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $given) { webhookSubscription { id } userErrors { message } }
}
"""

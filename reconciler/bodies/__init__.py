"""From the Admin API's GraphQL to the REST-shaped bodies that webhooks carry: a mapper for each family.

A key is here when its value is known from the API, and absent otherwise: a null that Shopify didn't say could be taken for
news. `absent.ABSENT` lists what real webhooks have and these bodies don't.
"""

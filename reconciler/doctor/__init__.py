"""The subscription doctor: does Shopify still send what the app wants, to the right address, in a form that can be used?

`facts` are what is declared, seen and heard; `diagnosis` turns them into findings, pure; `hearing` reads the tape, `visiting` asks the
Admin API, keeps the findings and repairs. It never deletes or changes a subscription.
"""

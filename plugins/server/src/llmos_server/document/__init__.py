"""What the OpenAPI document says of the answers; requests are said by the models that check them."""

"""Gorse's REST API over `/v1`, so that an application written for Gorse moves without a change; docs/gorse.md.

Off unless `BOTIFY_GATEWAY_GORSE` is set. What has no counterpart is refused with 501 and the way out. What is accepted
but not kept, such as the labels of a user, is named in the answer's header `X-Botify-Ignored`.
"""

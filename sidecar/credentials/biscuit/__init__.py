"""Biscuits: signed tokens that whoever holds one can narrow by himself, offline.

`facts` is what checks may ask about, `wire` reads a block's bytes, `profile` says which checks are accepted, `meaning` what the
plain ones among them say, `narrowing` writes such checks; `library` alone calls the library; `verifier` puts it together and
`minting` makes new tokens. The law: a token is verified by the library first, and what is then looked at are the bytes that the
library itself has written of it: there is nothing that it and we could read differently.
"""

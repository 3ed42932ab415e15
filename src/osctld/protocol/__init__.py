"""Requests of programs, pure: what a program asks for becomes a command, and the reply an answer.

request    what all requests have in common
families   the requests of the original osctl's protocol, one file per family of names
catalogue  all of them, and every command of ours under its own name
reading    `cmd` and `opts` to a command and its options
answers    a reply to what `response` holds
schemas    what each answer looks like, as JSON schema
"""

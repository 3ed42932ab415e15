"""The Unix socket: one JSON document a line in, one out.

    listener      accepts connections, and ends them when the daemon ends
    door          who may connect, in which role, and how many
    lines         one connection's bytes: lines in both directions, descriptors beside them
    documents     lines to documents and back
    connection    one client: its requests in order, each answered by one of
    command_line  the request `cli`: words become a command here, and its reply text
    program       typed requests: `osctld.protocol` says what they mean

`ports` says what performs commands, and what a command may ask of its client. The protocol is described in
`osctld.core.wire`.
"""

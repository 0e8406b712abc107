"""What each caller may use and has used: counted by this process, or together with other replicas through Redis.

`account` is what the rest of the service sees; `local` counts in this process, `shared` in Redis, `line` lets calls
wait, `ledger` keeps what was used, `headers` and `report` tell callers about it.
"""

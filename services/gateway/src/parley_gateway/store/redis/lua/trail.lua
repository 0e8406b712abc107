-- Returns the steps of a trail. KEYS: 1 trail.
return redis.call('LRANGE', KEYS[1], 0, -1)

-- Returns bytes, media type, expiry time. KEYS: 1 blob.
return redis.call('HMGET', KEYS[1], 'data', 'mime', 'expires_at')

-- Sets a value. KEYS: 1 value. ARGV: 1 value, 2 expires at, 3 milliseconds.
redis.call('HSET', KEYS[1], 'value', ARGV[1], 'expires_at', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1

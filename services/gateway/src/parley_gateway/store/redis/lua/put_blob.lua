-- Stores bytes. KEYS: 1 blob. ARGV: 1 bytes, 2 media type, 3 expires at, 4 milliseconds.
redis.call('HSET', KEYS[1], 'data', ARGV[1], 'mime', ARGV[2], 'expires_at', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1

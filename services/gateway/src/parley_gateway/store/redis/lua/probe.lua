-- Writes: a replica would answer reads. KEYS: 1 probe. ARGV: 1 seconds.
redis.call('SET', KEYS[1], '1', 'EX', ARGV[1])
return 1

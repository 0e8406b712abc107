-- Forgets a dead letter. ARGV: 1 reference. Returns how many there were.
redis.call('ZREM', KEYS[13], ARGV[1])
return redis.call('HDEL', KEYS[12], ARGV[1])

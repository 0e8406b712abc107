-- Returns messages, lanes in work, when the message that arrived first was queued and received, dead letters.
-- ARGV: 1 now.
local first = redis.call('ZRANGE', KEYS[11], 0, 0, 'WITHSCORES')
return {
  redis.call('ZCARD', KEYS[11]), redis.call('ZCOUNT', KEYS[6], '(' .. ARGV[1], '+inf'),
  first[2] or '', first[1] and item(first[1])[6] or '', redis.call('HLEN', KEYS[12])
}

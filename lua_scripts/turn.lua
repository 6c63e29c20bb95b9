-- turn: take the turn of a job that runs once a period over all workers.
-- KEYS  1 jobs
-- ARGV  1 name of the job  2 period in ms
-- Returns 1 when it is the caller's turn, else 0. Frees before it writes, so that a full Redis does not stop the jobs.
local now_parts = redis.call('TIME')
local now = now_parts[1] * 1000 + math.floor(now_parts[2] / 1000)
local last = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
-- A clock that was set back must not stop the job for as long as it had been ahead.
if last > 0 and last <= now and now - last < tonumber(ARGV[2]) then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], now)
return 1

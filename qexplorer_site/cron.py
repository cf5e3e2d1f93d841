"""What runs by the clock: one tick a minute. What a tick does is written in the database, where the admin edits it."""

from rq import cron

from audit.jobs import tick
from training.jobs import learning_tick

# A tick that no worker took within its minute is dropped: the next one does the same.
cron.register(tick, queue_name="default", cron="* * * * *", name="tick", job_timeout=300, ttl=55, result_ttl=0)
cron.register(
    learning_tick, queue_name="default", cron="* * * * *", name="learning-tick", job_timeout=300, ttl=55, result_ttl=0
)

"""Several serving processes behind one address. The law: what only one may do (bind, write the audit log, answer operators),
the parent does; requests never pass through it.

`supervisor` is the parent's life, `child` its view of one worker, `member` a worker's view of the parent; `channel` is what
they say to each other, `evidence` how audit records travel, `merge` how many processes' metrics become one's.
"""

"""mteb: a classification and a similarity task on local rows."""

import sys

models, work = sys.argv[1:3]
answer = {}

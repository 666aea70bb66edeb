# Every target sets up .venv first where needed. Without make: python3 dev.py demo, python3 dev.py test, …
.PHONY: demo test check bench
demo test check bench:
	@python3 dev.py $@

.PHONY: run up stop test doctor

run:
	./qexplorer

up:
	./qexplorer up

stop:
	./qexplorer stop

test:
	./qexplorer test

doctor:
	./qexplorer doctor

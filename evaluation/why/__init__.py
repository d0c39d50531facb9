"""`botify why`: any answer, computed again from the topics and compared in every bit."""

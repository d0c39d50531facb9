"""Dead letters: looking at them, bringing them back, giving them up."""

"""How the tiny models are made: their shapes, what they read, how they train, and the factorial of them."""

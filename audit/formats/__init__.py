"""How languages write figures, where Django says otherwise."""

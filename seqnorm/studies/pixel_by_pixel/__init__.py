"""Study of the tasks on which BatchNorm of every time step was introduced."""

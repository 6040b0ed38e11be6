"""`python -m studio.models` prepares the embedded model, unless that was done before."""

from studio.models.embedded import main

main()

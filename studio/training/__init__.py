"""How training and decoding are done, torch at the top of the file; never imported by the page process."""

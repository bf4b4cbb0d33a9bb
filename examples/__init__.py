"""What speechtok is for, as programs to read and change."""

"""mailsvc: an SMTP front door for applications."""

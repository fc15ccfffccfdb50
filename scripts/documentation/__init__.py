"""What the site has from code: pages of the reference, and checks of links."""

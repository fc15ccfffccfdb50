"""Complete models from image to payload to prediction: a cut network and one or several feature coders."""

"""Images larger than memory, strip by strip: tiles read, predicted and joined, masks cleaned, files written."""

"""What a written config is made from: the data that were found, their lengths, settings that fit, other tools' flags."""

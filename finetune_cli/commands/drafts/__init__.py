"""What a written config is made from: data that were found, their lengths, settings that fit, other tools' flags."""

echo "nobody says what runs this"
